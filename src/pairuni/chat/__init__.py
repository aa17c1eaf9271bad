"""Asking a vision-language model behind any OpenAI-compatible endpoint; knows neither pairs nor rewards."""
