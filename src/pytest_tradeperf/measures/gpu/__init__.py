"""What a block did on the GPU: memory, utilisation, energy, kernel time. Other vendors by entry point."""
