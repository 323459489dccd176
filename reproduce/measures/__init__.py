"""From pictures to the files of a measure (`measures.measuring`), and from these to the number in a cell (`measures.takes`)."""
