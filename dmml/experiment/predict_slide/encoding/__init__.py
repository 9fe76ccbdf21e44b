"""Which tiles of a patient are encoded, and how their features become a batch."""
