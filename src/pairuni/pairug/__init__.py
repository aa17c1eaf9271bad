"""Raw understanding and generation data -> PairUG (arXiv:2510.25682, section 2.1)."""
