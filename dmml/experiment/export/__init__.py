"""Exports a trained student as ONNX and `torch.export`, with a runner, a model card and a TRIPOD+AI table."""
