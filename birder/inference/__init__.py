"""Running networks: single images, batches, data loaders, and engines that embed folders."""
