"""What a run did, for people: one page of HTML, and papers that are asked for."""
