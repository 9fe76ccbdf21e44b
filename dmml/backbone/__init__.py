"""The backbone of teacher and student: label-free statistics of slides and RNA, and a convex model of the outcome on them."""
