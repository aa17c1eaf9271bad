"""Studies: grids of training runs, compared with each other and with the paper."""
