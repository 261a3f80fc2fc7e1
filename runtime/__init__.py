"""What an inference engine imports: packed weights, buffer descriptors, and the kernels built ahead of time."""
