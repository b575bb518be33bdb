package belfry

import (
	"strings"
	"time"
)

// Who may join a subscription, and leave it again, without an administrator.
const (
	JoinNone    = "none"    // nobody: administrators add members
	JoinMembers = "members" // every active user
	JoinRoles   = "roles"   // who holds one of the roles where she joins
	JoinAnyone  = "anyone"  // users, and addresses that confirm by mail
)

// Joining says who may add and remove themselves.
type Joining struct {
	Who     string   `json:"who,omitempty"`     // none (default) | members | roles | anyone
	Roles   []string `json:"roles,omitempty"`   // merged at the object that is joined; with who roles
	Confirm *bool    `json:"confirm,omitempty"` // nil = true: an address joins and leaves by a link that is mailed to it
	Greet   *bool    `json:"greet,omitempty"`   // nil = true: who joins or leaves is told so
	// Follow makes people members, and takes them out, by what they do.
	Follow []Participation `json:"follow,omitempty"`
}

// Confirms is Confirm with its default.
func (j *Joining) Confirms() bool { return j.Confirm == nil || *j.Confirm }

// Greets is Greet with its default.
func (j *Joining) Greets() bool { return j.Greet == nil || *j.Greet }

// Participation says that whoever an event names takes part in what happens at
// its object from then on, or does not any more.
type Participation struct {
	Types []string `json:"types"`           // exact or prefix with *
	Who   string   `json:"who,omitempty"`   // actor (default), related, or a dotted path in data: users
	Leave bool     `json:"leave,omitempty"` // they leave; with who * everybody does
}

// Everybody is the Who of a Participation that is for all members at an object.
const Everybody = "*"

// OwnTypes begins the types of events by which the server tells of itself; nobody
// else may name one.
const OwnTypes = "belfry."

// Types of the events by which people are told what became of things of theirs.
const (
	EventEndpointDisabled  = OwnTypes + "endpoint_disabled"
	EventSubscriptionEnded = OwnTypes + "subscription_ended"
)

// OwnEventTypes are all of them that people can be told of: how they are told
// can be declared, as for any type.
func OwnEventTypes() []string {
	return []string{ConditionMet, ConditionResolved, EventEndpointDisabled, EventConfirm, EventInvited, EventJoined, EventLeaving, EventLeft, MuteEnding,
		NotificationType, ProblemResolved, EventSubscriptionEnded}
}

// Types of the events by which people are told about joining. The data is
// title, place and what a link of the message answers.
const (
	EventConfirm = OwnTypes + "joining_confirm"
	EventLeaving = OwnTypes + "leaving_confirm"
	EventInvited = OwnTypes + "joining_invited"
	EventJoined  = OwnTypes + "joined"
	EventLeft    = OwnTypes + "left"
)

// AskKind is what a message about joining is for. The numbers are stored.
type AskKind int8

// Kinds of asks.
const (
	AskJoin    AskKind = 0 // an address is asked to confirm that it joins
	AskLeave   AskKind = 1 // to confirm that it leaves
	AskInvite  AskKind = 2 // somebody is invited
	AskWelcome AskKind = 3 // somebody is told that she joined
	AskGoodbye AskKind = 4 // that she left
)

// Answered reports whether the message wants an answer.
func (k AskKind) Answered() bool { return k <= AskInvite }

// AskPrefix begins the ids of asks.
const AskPrefix = "ask_"

// Ask is a message about joining that is to be sent, and, of some kinds, to be
// answered by a link in it. Of one kind there is one at a time for each
// recipient, subscription and object.
type Ask struct {
	Tenant       string    `json:"-"`
	ID           string    `json:"id"`
	Who          string    `json:"who"` // a principal, or a bare normalised address
	Subscription string    `json:"subscription"`
	Object       string    `json:"object,omitempty"` // joined at; empty = the whole scope
	Kind         AskKind   `json:"-"`
	By           string    `json:"by,omitempty"` // who asked for it or invited
	Asked        time.Time `json:"asked"`
	Due          time.Time `json:"-"`     // when it is looked at; zero = it was sent, and waits for the answer
	Until        time.Time `json:"until"` // no answer is taken after it
}

// AskCount bounds how much may be asked for by one who, or by all: at most
// Most in each Span.
type AskCount struct {
	Who  string
	Span time.Duration
	Most int
}

// AskStanding is what is known of a recipient before an ask is sent.
type AskStanding struct {
	Member   bool      // joined the ask's subscription at its object
	Anywhere bool      // joined it at all
	OptedOut bool      // of the ask's subscription
	Blocked  time.Time // another ask waits for the recipient's answer until then; zero = none
	Spent    time.Time // so many were sent that none is before then; zero = there is room
}

// IsAddress reports whether a name that no user and no group has stands for a
// bare address, in its normal form.
func IsAddress(name string) bool {
	at := strings.IndexByte(name, '@')
	return at > 0 && at < len(name)-1 && NormaliseEmail(name) == name
}
