"""Missing entries filled by any estimator that can impute."""
