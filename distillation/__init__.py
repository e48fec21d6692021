"""The method: teacher, students, losses, training. The only package, with the export, that imports torch."""
