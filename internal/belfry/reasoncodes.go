package belfry

import (
	"maps"
	"slices"
)

// ReasonCodes are the codes of all reasons that have words, sorted.
func ReasonCodes() []string { return slices.Sorted(maps.Keys(texts)) }
