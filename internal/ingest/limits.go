package ingest

// Limits bound what one request may hold. Zero fields take the default.
type Limits struct {
	EventBytes int // of one event as it came
	Events     int // in one request
	KeyBytes   int // of id, type, source
	NameBytes  int // of object, actor, destination, one related principal, subject, commit, ...
	TextBytes  int // of comment
	Related    int // principals an event may be about
	Extensions int // attributes of other people's making
	Depth      int // nesting of JSON
	Pending    int // accepted events not yet planned, above which Overloaded is answered
}

// defaultLimits are the documented ones; never changed.
var defaultLimits = Limits{
	EventBytes: 256 << 10,
	Events:     10_000,
	KeyBytes:   255,
	NameBytes:  512,
	TextBytes:  16 << 10,
	Related:    1000,
	Extensions: 64,
	Depth:      100,
	Pending:    1_000_000,
}

// orDefault fills what is not set.
func (l Limits) orDefault() Limits {
	fill := func(field *int, or int) {
		if *field <= 0 {
			*field = or
		}
	}
	fill(&l.EventBytes, defaultLimits.EventBytes)
	fill(&l.Events, defaultLimits.Events)
	fill(&l.KeyBytes, defaultLimits.KeyBytes)
	fill(&l.NameBytes, defaultLimits.NameBytes)
	fill(&l.TextBytes, defaultLimits.TextBytes)
	fill(&l.Related, defaultLimits.Related)
	fill(&l.Extensions, defaultLimits.Extensions)
	fill(&l.Depth, defaultLimits.Depth)
	fill(&l.Pending, defaultLimits.Pending)
	return l
}
