"""The column of predicted values. It stands by itself because a checkpoint is loaded without pandas."""

PREDICTED_VALUE = "predicted_value"
"""Column of `predictions.csv` with a predicted value, in the units of the value"""
