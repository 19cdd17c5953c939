"""Images to stored descriptors: crops and scales of one image, batches, files with a fingerprint."""
