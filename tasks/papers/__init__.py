"""Published tables, the trainings that reproduce them, two experiments of papers, and tests of what they claim."""
