"""A guard against loss of quality: a short training on rendered parts must still find what it found.

120 good parts of the simulated line to learn from; 40 good and 4 x 15 defective ones to judge: scratches
(structural), pieces that are missing, surplus or misplaced (logical). 96 x 96... """
