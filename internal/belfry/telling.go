package belfry

import "encoding/json"

// Telling is what of a subscription decides how and when people are told: while
// it stays the same, an edit moves nothing that waits for a digest.
func (s *Subscription) Telling() string {
	return telling(s.Frequency, s.Notify, s.Merge, s.Mandatory, s.Fallback)
}

// Telling is what of an event type decides how and when people are told.
func (t *EventType) Telling() string {
	return telling(t.Frequency, t.Channels, t.Urgent, t.Mandatory, t.Category)
}

// Telling is what of a tenant's settings decides how and when people are told.
func (t *TenantSettings) Telling() string {
	return telling(t.Frequency, t.Channels, t.Fallback)
}

func telling(parts ...any) string {
	text, _ := json.Marshal(parts) // plain values: it cannot fail
	return string(text)
}
