"""PairGRPO (arXiv:2510.25682, section 2.2): train one model on both sides of each pair."""
