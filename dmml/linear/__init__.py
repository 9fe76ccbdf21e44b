"""Linear models of an outcome, fitted with NumPy and SciPy only: in closed form, by Newton's method or by L-BFGS."""
