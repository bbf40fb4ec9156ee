"""Prediction on images, folders, videos and cameras with a trained network."""
