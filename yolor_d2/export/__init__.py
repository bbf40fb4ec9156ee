"""Export as ONNX, OpenVINO, TorchScript or torch.export graphs, and a runner without PyTorch."""
