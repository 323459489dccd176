"""How the embedded model's weights are made: data, judge, autoencoder, text tower, UNet."""
