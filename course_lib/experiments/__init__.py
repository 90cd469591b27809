"""The course's experiments: runs that take longer than a chapter, repeated by `course experiment NAME`."""
