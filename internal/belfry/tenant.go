package belfry

import (
	"encoding/json"
	"time"
)

// TenantSettings are what an administrator sets for the whole tenant: the body
// of the document of KindSetting with the id TenantSettingsID.
type TenantSettings struct {
	// Webhooks is on (also when it is empty) or off: then deliveries to
	// endpoints are planned and wait.
	Webhooks string `json:"webhooks,omitempty"`
	Because  string `json:"because,omitempty"` // why something is off
	// Channels and Frequency are those of whom nothing else speaks; empty = the
	// inbox and e-mail, immediately.
	Channels  []string   `json:"channels,omitempty"`
	Frequency *Frequency `json:"frequency,omitempty"`
	// MaxPerDay is how many messages each person gets a day by each channel.
	MaxPerDay map[string]int `json:"max_per_day,omitempty"`
	Fallback  []string       `json:"fallback,omitempty"` // when another channel has failed for good

	Sender *Sender `json:"sender,omitempty"` // of messages; nil = as the channel says

	Name   string `json:"name,omitempty"`   // of the platform, as messages say it
	URL    string `json:"url,omitempty"`    // of the platform
	Locale string `json:"locale,omitempty"` // BCP 47: of messages to readers whose language is not known or has no words; empty = en

	Authoriser *Authoriser `json:"authoriser,omitempty"` // nil = what Belfry knows of roles and hidden objects decides alone
}

// Authoriser is where the platform says whether somebody may be told of an
// event: of a type, on an object. Until it has said so, nobody is.
type Authoriser struct {
	Endpoint string `json:"endpoint"`          // ep_...: its address, secrets, headers and time-out
	TTL      string `json:"ttl,omitempty"`     // how long an answer holds; Go duration, empty = 5m
	GiveUp   string `json:"give_up,omitempty"` // without an answer for so long nobody is told; Go duration, empty = 24h
}

// Defaults of an Authoriser.
const (
	AuthoriserTTL    = 5 * time.Minute
	AuthoriserGiveUp = 24 * time.Hour
)

// Holds is how long an answer holds.
func (a *Authoriser) Holds() time.Duration { return durationOr(a.TTL, AuthoriserTTL) }

// Patience is how long an answer is waited for.
func (a *Authoriser) Patience() time.Duration { return durationOr(a.GiveUp, AuthoriserGiveUp) }

func durationOr(text string, otherwise time.Duration) time.Duration {
	if d, ok := ParseSpan(text); ok && d > 0 {
		return d
	}
	return otherwise
}

// TenantSettingsID is the id of the document of a tenant's settings.
const TenantSettingsID = "tenant"

// Values of switches.
const (
	On  = "on"
	Off = "off"
)

// WebhooksOff reports whether endpoints are not to be called now.
func (s *TenantSettings) WebhooksOff() bool { return s != nil && s.Webhooks == Off }

// DecodeTenantSettings reads the document.
func DecodeTenantSettings(doc Document) (*TenantSettings, error) {
	s := new(TenantSettings)
	if err := json.Unmarshal(doc.Body, s); err != nil {
		return nil, Errorf(Internal, "the tenant's settings are stored in a form this version does not read: %w", err)
	}
	return s, nil
}
