"""Figures of one run and of several: arrays in, matplotlib Figure out. Only this room imports matplotlib;
others decide when to draw."""
