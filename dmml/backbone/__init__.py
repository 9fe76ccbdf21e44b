"""The closed-form part of teacher and student: label-free statistics of slides and RNA, and a convex model on them."""
