"""Client for vision-language models behind any OpenAI-compatible endpoint; independent of pairs and rewards."""
