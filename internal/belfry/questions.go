package belfry

// Generator is an event type at an object: what can be subscribed to there.
type Generator struct {
	Type     string `json:"type"`
	Title    string `json:"title,omitempty"`
	Category string `json:"category,omitempty"`
	Object   string `json:"object"`
	// Subscriptions are those that are looked up for it there.
	Subscriptions []GeneratorSubscription `json:"subscriptions"`
	// Subscribe says who may subscribe to it by themselves.
	Subscribe Subscribers `json:"subscribe,omitzero"`
	// MaySee, MaySubscribe and Because speak of the user that was asked for, if
	// one was.
	MaySee       *bool        `json:"may_see,omitempty"`
	MaySubscribe *bool        `json:"may_subscribe,omitempty"`
	Because      []ReasonView `json:"because,omitempty"` // why not
}

// GeneratorSubscription is a way to hear of a generator.
type GeneratorSubscription struct {
	ID       string `json:"id"`
	Title    string `json:"title,omitempty"`
	Joined   bool   `json:"joined"`    // the user did, for this place
	OptedOut bool   `json:"opted_out"` // the user did
}

// HereAnswer says who gets what at an object, for one event type. Filters are
// not looked at: what an event says is not known yet.
type HereAnswer struct {
	Type          string               `json:"type"`
	Title         string               `json:"title,omitempty"`
	Object        string               `json:"object"`
	Subscriptions []AnswerSubscription `json:"subscriptions"`
	People        []AnswerPerson       `json:"people"`
	// Kinds counts the people who are told by how they are named: the code of
	// the first reason.
	Kinds map[string]int `json:"kinds"`
	More  bool           `json:"more"` // there are more people
}

// EffectiveSetting is one thing that holds for a person, and what it comes from.
type EffectiveSetting struct {
	Setting string `json:"setting"` // stop | level | mute_until | mandatory | forbidden | channel | fallback | frequency
	Value   string `json:"value"`
	// Type, Category and Object are those of the preference it comes from.
	Type     string     `json:"type,omitempty"`
	Category string     `json:"category,omitempty"`
	Object   string     `json:"object,omitempty"`
	Because  ReasonView `json:"because"`
}
