package belfry

import "time"

// Throttle bounds how many messages of a subscription one person gets within a
// time: what is more is in her inbox alone. A digest is one message, which waits
// while it tells only of what has been told often enough.
type Throttle struct {
	Limit  int    `json:"limit"`
	Window string `json:"window"`        // a Go duration
	Key    string `json:"key,omitempty"` // CEL, as group_by of a condition: each value has a limit of its own; empty = all together
}

// Span is Window, parsed.
func (t *Throttle) Span() time.Duration {
	d, _ := time.ParseDuration(t.Window)
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
}

// ChannelLimit is what a tenant may send by a channel that all tenants share,
// over all its people; 0 = any number.
type ChannelLimit struct {
	PerMinute int `json:"per_minute,omitempty" minimum:"0" doc:"Messages a minute"`
	PerDay    int `json:"per_day,omitempty" minimum:"0" doc:"Messages a day, from midnight to midnight UTC"`
}

// TenantLimits is what the document of a tenant says of its limits.
type TenantLimits struct {
	Limits map[string]ChannelLimit `json:"limits,omitempty"` // by channel
}
