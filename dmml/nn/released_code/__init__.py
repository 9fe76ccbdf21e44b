"""The expression encoder and the fusion of the paper's released code, where that code differs from the paper."""
