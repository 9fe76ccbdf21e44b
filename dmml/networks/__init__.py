"""Teacher and student as plain PyTorch modules, which their checkpoints alone can rebuild; `training/` adds Lightning."""
