"""How a network is trained: settings, loop, augmentation, averaging, distillation."""
