package store

import (
	"encoding/json"

	"github.com/belfryhq/belfry/internal/belfry"
)

// choice is what somebody chose when joining, and who added her, as it is kept in the column of
// the channels: nothing, an array of channels, or, with more than those, an
// object.
type choice struct {
	Channels  []string          `json:"channels,omitempty"`
	Frequency *belfry.Frequency `json:"frequency,omitempty"`
	By        string            `json:"by,omitempty"`
}

func memberChoice(m *belfry.Member) (string, error) {
	var v any
	switch {
	case m.Frequency != nil || m.By != "":
		v = choice{m.Channels, m.Frequency, m.By}
	case len(m.Channels) > 0:
		v = m.Channels
	default:
		return "", nil
	}
	body, err := json.Marshal(v)
	return string(body), err
}

func readChoice(text string, into *belfry.Member) error {
	switch {
	case text == "":
		return nil
	case text[0] == '[':
		return json.Unmarshal([]byte(text), &into.Channels)
	}
	var c choice
	err := json.Unmarshal([]byte(text), &c)
	into.Channels, into.Frequency, into.By = c.Channels, c.Frequency, c.By
	return err
}
