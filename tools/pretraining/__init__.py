"""What the recipes of the tiny models share: images, lessons, schedule and stored stages."""
