"""Client for vision-language models behind any OpenAI-compatible endpoint; knows neither pairs nor rewards."""
