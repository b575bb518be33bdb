package belfry

// Nearest is the one of known that a person who wrote name most likely meant;
// empty when none is near. Every refusal of an unknown name uses it, so that
// all of them help alike.
func Nearest(name string, known []string) string {
	best, least := "", (len(name)+2)/3
	for _, k := range known {
		if d := distance(name, k, least); d <= least && (best == "" || d < least) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of single-byte insertions, deletions and changes from
// a to b, or limit+1 when there are more than limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return min(row[len(b)], limit+1)
}
