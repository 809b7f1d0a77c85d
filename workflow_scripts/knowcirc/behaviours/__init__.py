"""What models do with facts: wrong answers, demonstrations, two hops, both ways."""
