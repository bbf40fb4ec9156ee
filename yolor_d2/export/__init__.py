"""Export as ONNX, TorchScript or torch.export graphs, and a runner without PyTorch."""
