"""A picture, from the file or camera to what the engine sees: read, aligned, cut, masked, resized, tiled."""
