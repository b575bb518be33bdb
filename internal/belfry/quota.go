package belfry

import "time"

// Throttle bounds how many messages of a subscription one person gets within a
// time: what is more is in her inbox alone. A digest is one message, which waits
// while it tells only of what has been told often enough.
type Throttle struct {
	Limit  int    `json:"limit"`
	Window string `json:"window"`        // as ParseSpan reads it
	Key    string `json:"key,omitempty"` // CEL, as group_by of a condition: each value has a limit of its own; empty = all together
}

// Span is Window, parsed.
func (t *Throttle) Span() time.Duration {
	d, _ := ParseSpan(t.Window)
	return d
}

// QuotaUse asks for one of the things somebody may have so many of at a time.
type QuotaUse struct {
	Principal string
	Name      string // of the quota
	Grant     string // what it is for: the same is granted once, however often it is asked for
	Limit     int
	Until     time.Time // the grant counts until then
	// Span is how long the grant counts from when it may be used, in place of
	// Until. With Wait, one that is not to be had now is kept for when it is.
	Span time.Duration
	Wait bool
	// Force is granted now, whether there is room or not, and counts from now; a
	// place that was kept for it in one of her quotas whose names begin with
	// Instead (if that is not empty) is given back.
	Force   bool
	Instead string
}

// ChannelLimit is what a tenant may send by a channel that all tenants share,
// over all its people; 0 = any number.
type ChannelLimit struct {
	PerMinute int `json:"per_minute,omitempty" minimum:"0" doc:"Messages a minute"`
	PerDay    int `json:"per_day,omitempty" minimum:"0" doc:"Messages a day, from midnight to midnight UTC"`
}

// ShareOf is the name under which what a tenant sends by a channel that all
// share is counted; no channel has such a name.
func ShareOf(channel string) string { return "share of " + channel }

// Permits is what was taken of a limit within a window.
type Permits struct {
	Channel string // or ShareOf one
	Span    time.Duration
	Start   time.Time // of the window
	Used    int
}

// PermitsAhead is how far the clock of another process may be ahead: permits may
// be counted for a later window by so much, or by one window. Beyond that its
// clock was wrong, and they count for nothing.
const PermitsAhead = 10 * time.Second

// WindowUsage is how much of a limit is used.
type WindowUsage struct {
	Used      int       `json:"used" doc:"What was sent, with what servers have set aside to be sent next: a quarter of a limit a minute at most, a hundredth of one a day, each of them"`
	Remaining int       `json:"remaining" doc:"0: more waits"`
	Frees     time.Time `json:"frees" doc:"When the whole limit may be used anew"`
}

// ChannelUsage is how much a tenant has used of what it may send by a channel.
type ChannelUsage struct {
	Minute *WindowUsage `json:"minute,omitempty" doc:"Of per_minute"`
	Day    *WindowUsage `json:"day,omitempty" doc:"Of per_day"`
}

// Usage is how much of the limit on a channel is used at a time, by what was
// taken of it.
func (l ChannelLimit) Usage(channel string, taken []Permits, now time.Time) ChannelUsage {
	within := func(limit int, span time.Duration) *WindowUsage {
		if limit == 0 {
			return nil
		}
		start := now.UTC().Truncate(span)
		w := WindowUsage{Remaining: limit, Frees: start.Add(span)}
		for _, p := range taken {
			if p.Channel == ShareOf(channel) && p.Span == span && !p.Start.Before(start) && !p.Start.After(start.Add(max(span, PermitsAhead))) {
				w = WindowUsage{Used: p.Used, Remaining: max(limit-p.Used, 0), Frees: p.Start.UTC().Add(span)}
			}
		}
		return &w
	}
	return ChannelUsage{Minute: within(l.PerMinute, time.Minute), Day: within(l.PerDay, 24*time.Hour)}
}

// TenantLimits is what the document of a tenant says of its limits.
type TenantLimits struct {
	Limits map[string]ChannelLimit `json:"limits,omitempty"` // by channel
}
