"""The decode loop of autoregressive families: KV cache, attention, sampling, CUDA graphs."""
