"""Networks as files that run without Birder: ONNX, OpenVINO and PyTorch's PT2."""
