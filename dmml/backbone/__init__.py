"""The backbone of teacher and student: convex models of the outcome on RNA and label-free statistics of slides."""
