"""The equations of the method, each a pure function on tensors."""
