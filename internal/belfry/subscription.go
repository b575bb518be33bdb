package belfry

import (
	"hash/fnv"
	"slices"
	"strings"
	"time"
)

// How far down from its object a scope applies.
const (
	AppliesSubtree  = "subtree"
	AppliesSelf     = "self"
	AppliesChildren = "children" // direct children, not the object itself
)

// States of a subscription.
const (
	SubscriptionActive = "active"
	SubscriptionPaused = "paused"
	SubscriptionEnded  = "ended"
)

// Origins of a subscription: who made it.
const (
	FromPerson   = "person"
	FromAdmin    = "admin"
	FromManifest = "manifest"
	FromPreset   = "preset"
	FromBelfry   = "belfry" // built in
)

// Subscription says: when these events happen here, tell these people, this way.
type Subscription struct {
	ID           string       `json:"id"`
	Title        string       `json:"title,omitempty"`
	Scope        Scope        `json:"scope,omitzero"`
	Types        []string     `json:"types,omitempty"` // exact or prefix with *; empty = every type
	ObjectTypes  []string     `json:"object_types,omitempty"`
	Filter       string       `json:"filter,omitempty"`   // CEL
	Filters      []string     `json:"filters,omitempty"`  // saved ones, by name: all of them must be true as well
	Combined     string       `json:"combined,omitempty"` // Filters and Filter in one; the server's to say
	Recipients   []Rule       `json:"recipients,omitempty"`
	Exclude      Exclusion    `json:"exclude,omitzero"`
	ExcludeActor *bool        `json:"exclude_actor,omitempty"` // nil = true
	Notify       []Notify     `json:"notify,omitempty"`        // empty = tell recipients by their own choice
	Frequency    *Frequency   `json:"frequency,omitempty"`     // for whoever chose none; nil = as the type says
	Merge        *bool        `json:"merge,omitempty"`         // nil = true; false keeps its messages apart
	Fallback     []string     `json:"fallback,omitempty"`      // channels, when another has failed for good, for whoever chose none
	Throttle     *Throttle    `json:"throttle,omitempty"`      // nil = as many messages as there are
	Acknowledge  *Acknowledge `json:"acknowledge,omitempty"`   // nil = nobody need say that she has taken notice
	Mandatory    bool         `json:"mandatory,omitempty"`
	Sender       *Sender      `json:"sender,omitempty"` // nil = as the object or the tenant says
	Owner        string       `json:"owner,omitempty"`
	Origin       string       `json:"origin,omitempty"` // person | admin | manifest | preset
	Preset       string       `json:"preset,omitempty"` // that was switched on at its object: its parameters are the preset's
	Joining      Joining      `json:"joining,omitzero"`

	Condition *Condition `json:"condition,omitempty"` // tell when it is met, instead of of each event

	State   string    `json:"state"`
	Because string    `json:"because,omitempty"` // why it is paused or ended, by whom
	Created time.Time `json:"created"`
	Version int64     `json:"version"` // the tenant's version of its last change
}

// WholeFilter is what must be true of an event: Filter, with the saved filters
// that the subscription names.
func (s *Subscription) WholeFilter() string {
	if s.Combined != "" {
		return s.Combined
	}
	return s.Filter
}

// SavedFilter is a filter that subscriptions name. Deleting it pauses them.
type SavedFilter struct {
	Name     string `json:"name"`
	Title    string `json:"title,omitempty"`
	Filter   string `json:"filter"`             // CEL
	Owner    string `json:"owner,omitempty"`    // only her subscriptions may name it; empty = all
	Readable string `json:"readable,omitempty"` // in words; the server's to say
}

// Scope is the object a subscription sits on and how far down it applies.
type Scope struct {
	Object  string `json:"object,omitempty"`  // empty = the root
	Applies string `json:"applies,omitempty"` // subtree (default) | self | children
}

// Exclusion is the blacklist, applied after groups are expanded.
type Exclusion struct {
	Users  []string `json:"users,omitempty"`
	Emails []string `json:"emails,omitempty"`
}

// Rule names recipients; exactly one of its parts is set.
type Rule struct {
	Explicit *ExplicitRule `json:"explicit,omitempty"`
	Role     *RoleRule     `json:"role,omitempty"`
	Workflow *WorkflowRule `json:"workflow,omitempty"`
	Computed *ComputedRule `json:"computed,omitempty"`
	Related  *RelatedRule  `json:"related,omitempty"`
}

// ExplicitRule names users, groups and addresses.
type ExplicitRule struct {
	Users  []string `json:"users,omitempty"`
	Groups []string `json:"groups,omitempty"`
	Emails []string `json:"emails,omitempty"`
}

// Origins of a role rule: where the grant must be. The ancestor is the closest
// strict one of the rule's types; a farther one is never tried.
const (
	OriginLocal          = "local"           // on the object itself
	OriginMerged         = "merged"          // on it or above, less blocking
	OriginAncestorLocal  = "ancestor_local"  // on the ancestor itself
	OriginAncestorMerged = "ancestor_merged" // on the ancestor or above, less blocking
)

// What a role rule starts from.
const (
	OnObject      = "object"
	OnContainer   = "container" // the object's parent
	OnDestination = "destination"
)

// RoleRule names whoever holds one of the roles.
type RoleRule struct {
	Roles         []string `json:"roles"`
	Origins       []string `json:"origins,omitempty"`        // empty = merged
	AncestorTypes []string `json:"ancestor_types,omitempty"` // object types; of the origins that begin with ancestor_
	On            string   `json:"on,omitempty"`             // empty = object
}

// Origins of a workflow rule: whose history is read.
const (
	OriginContext   = "context"   // the event's object
	OriginContainer = "container" // its parent
	OriginAncestor  = "ancestor"  // the closest strict ancestor of the rule's types
)

// Which of the matching entries of a history count.
const (
	LookupLast = "last" // the single most recent one
	LookupAll  = "all"
)

// How far a history reaches.
const (
	HistoryLocal  = "local"  // this object
	HistoryGlobal = "global" // every object that is the same document
)

// VariableActor is the variable of a step that holds who took it.
const VariableActor = "actor"

// WorkflowRule names people by what they did, or were made, in a workflow.
type WorkflowRule struct {
	Origins       []string `json:"origins,omitempty"`        // empty = context
	AncestorTypes []string `json:"ancestor_types,omitempty"` // object types; of the origin ancestor
	Transitions   []string `json:"transitions,omitempty"`    // empty or with * = all; - first = all but the others
	Lookup        string   `json:"lookup,omitempty"`         // last (default) | all
	Variables     []string `json:"variables,omitempty"`      // empty = actor; dotted paths into the step's variables
	History       string   `json:"history,omitempty"`        // local (default) | global
}

// Takes reports whether the rule asks for steps of a transition.
func (r *WorkflowRule) Takes(transition string) bool {
	if len(r.Transitions) > 0 && r.Transitions[0] == "-" {
		return !slices.Contains(r.Transitions[1:], transition)
	}
	return len(r.Transitions) == 0 || slices.Contains(r.Transitions, "*") || slices.Contains(r.Transitions, transition)
}

// ComputedRule names whom an expression gives: users, groups or addresses.
type ComputedRule struct {
	Expression    string   `json:"expression"`               // CEL
	AncestorTypes []string `json:"ancestor_types,omitempty"` // object types; the closest strict one is the variable ancestor
}

// RelatedRule names the users the event is about.
type RelatedRule struct {
	Path string `json:"path,omitempty"` // related (default), or a dotted path in data
}

// Member is a principal who joined a subscription.
type Member struct {
	Subscription string   `json:"subscription,omitempty"`
	Principal    string   `json:"principal"`
	Object       string   `json:"object,omitempty"`   // joined at: counts for its subtree only; empty = whole scope
	Channels     []string `json:"channels,omitempty"` // empty = own choice
	// Frequency is how often she wants to hear of it; nil = as she prefers.
	Frequency *Frequency `json:"frequency,omitempty"`
	By        string     `json:"by,omitempty"` // who added her; empty = herself
	Since     time.Time  `json:"since"`
	// UnlessOut, of one to be stored: not when she has opted out by then. Who adds
	// her for what she did may not know yet that she does not want to be.
	UnlessOut bool `json:"-"`
}

// OptOut says that somebody does not want a subscription's messages, whatever
// rule names them; it survives edits of the rules. Who is a principal or a
// bare (normalised) address.
type OptOut struct {
	Subscription string    `json:"subscription,omitempty"`
	Who          string    `json:"who"`
	Since        time.Time `json:"since"`
}

// ExcludesActor is ExcludeActor with its default.
func (s *Subscription) ExcludesActor() bool { return s.ExcludeActor == nil || *s.ExcludeActor }

// Merges is Merge with its default.
func (s *Subscription) Merges() bool { return s.Merge == nil || *s.Merge }

// OfAdministrators reports whether it is one that the ways of looking up
// subscriptions at objects are for: people's own, and those that are built in,
// always apply.
func (s *Subscription) OfAdministrators() bool {
	return s.Origin != FromPerson && s.Origin != FromBelfry
}

// ScopeObject is the object of the scope, the root when it names none.
func (s *Subscription) ScopeObject() string {
	if s.Scope.Object == "" {
		return RootObject
	}
	return s.Scope.Object
}

// TypeMatches reports whether an event type matches a pattern: equal, or the
// pattern ends in * and the type begins with what stands before it.
func TypeMatches(pattern, typ string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(typ, prefix)
	}
	return pattern == typ
}

// JoinKey names a principal beside a subscription.
type JoinKey struct{ Subscription, Principal string }

// Joins is how a principal stands to a subscription: where it joined, whether it
// opted out, and the invitations it has, also those that are over.
type Joins struct {
	Members  []Member
	OptedOut bool
	Invited  []Ask
}

// Gone is a subscription that has not ended and the object it is at, which was
// deleted.
type Gone struct {
	Subscription Subscription
	Object       Object
}

// GonePlace is a place in the order of what was deleted: by when, object and
// subscription. The zero place is before all.
type GonePlace struct {
	Deleted              time.Time
	Object, Subscription string
}

// Place is where it is in that order.
func (g *Gone) Place() GonePlace {
	return GonePlace{*g.Object.Deleted, g.Object.ID, g.Subscription.ID}
}

// Endpoint is a webhook target.
type Endpoint struct {
	ID            string            `json:"id"`
	URL           string            `json:"url"`
	Description   string            `json:"description,omitempty"`
	Format        string            `json:"format,omitempty"` // standard
	Headers       map[string]string `json:"headers,omitempty"`
	RatePerSecond float64           `json:"rate_per_second,omitempty"` // 0 = unlimited
	Concurrency   int               `json:"concurrency,omitempty"`     // requests at once; 0 = as many as it bears, up to 64
	Ordered       string            `json:"ordered,omitempty"`         // none (default) | object | endpoint: what goes one after the other
	Timeout       string            `json:"timeout,omitempty"`         // Go duration; empty = 15s
	Schedule      []string          `json:"schedule,omitempty"`        // waits between tries, Go durations; empty = the built-in one
	Owner         string            `json:"owner,omitempty"`
	DisableAfter  string            `json:"disable_after,omitempty"` // of failing only, Go duration; empty = the server's, 0s = never
	Resumed       time.Time         `json:"resumed,omitzero"`        // when it was last resumed
	State         string            `json:"state"`                   // active | paused | disabled
	Because       string            `json:"because,omitempty"`
	Secrets       []EndpointSecret  `json:"-"` // the first signs first; all valid ones sign
	Created       time.Time         `json:"created"`
	Version       int64             `json:"version"`
}

// EndpointSecret signs webhooks until it expires. Sealed is ciphertext of
// package secret; the clear form never leaves the process's memory.
type EndpointSecret struct {
	Sealed []byte     `json:"sealed"`
	Until  *time.Time `json:"until,omitempty"` // end of a rotation's overlap; nil = no end
}

// What an endpoint wants one after the other.
const (
	OrderedNone     = "none"
	OrderedObject   = "object"   // events of one object
	OrderedEndpoint = "endpoint" // all events
)

// Line is the Line of deliveries of an object's events to the endpoint.
func (e *Endpoint) Line(object string) int64 {
	switch e.Ordered {
	case OrderedEndpoint:
		return 1
	case OrderedObject:
		h := fnv.New64a()
		_, _ = h.Write([]byte(object))
		if n := int64(h.Sum64()); n < 0 || n > 1 {
			return n
		}
		return 2
	}
	return 0
}

// States of an endpoint.
const (
	EndpointActive   = "active"
	EndpointPaused   = "paused"
	EndpointDisabled = "disabled"
)
