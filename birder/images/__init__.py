"""From a file to pixels: finding, opening, orienting and resizing images."""
