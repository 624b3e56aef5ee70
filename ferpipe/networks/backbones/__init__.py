"""Convolutional backbones: a batch of images in, one feature vector per image out."""
