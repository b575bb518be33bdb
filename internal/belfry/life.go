package belfry

import "time"

// DeliverySelect chooses deliveries for bulk work. Empty fields choose all.
type DeliverySelect struct {
	State        *State    `json:"state,omitempty"`
	Open         bool      `json:"open,omitempty"`      // only those that still want a send
	Recipient    string    `json:"recipient,omitempty"` // a principal, or an address or endpoint
	Event        string    `json:"event,omitempty"`
	Channel      string    `json:"channel,omitempty"`
	Endpoint     string    `json:"endpoint,omitempty"`
	Subscription string    `json:"subscription,omitempty"`
	Since        time.Time `json:"since,omitzero"` // of events accepted then or later
	Until        time.Time `json:"until,omitzero"` // of events accepted before
}

// EventSelect chooses stored events for a replay. Empty fields choose all.
type EventSelect struct {
	Event  string    `json:"event,omitempty"`
	Type   string    `json:"type,omitempty"`   // exact, or a prefix with *
	Object string    `json:"object,omitempty"` // exact
	Since  time.Time `json:"since,omitzero"`   // accepted then or later
	Until  time.Time `json:"until,omitzero"`   // accepted before
}

// EventPlace is an event and the object that decides who plans it.
type EventPlace struct{ EventID, Object string }

// Replay says what a run of planning may do that somebody ordered: who is told,
// and whether what succeeded goes again.
type Replay struct {
	Recipient string `json:"recipient,omitempty"` // only this user or bare address
	Endpoint  string `json:"endpoint,omitempty"`  // only this endpoint
	Resend    bool   `json:"resend,omitempty"`    // also what was delivered, under its own id

	Escalation *Escalation `json:"escalation,omitempty"` // not a replay: a step, because nobody acknowledged
}

// Only reports whether the replay is for one recipient.
func (r *Replay) Only() bool { return r.Recipient != "" || r.Endpoint != "" }

// DeliveryCancel ends an open delivery.
type DeliveryCancel struct {
	ID      string
	Because Reason
}

// DeliveryRetry makes a delivery due again; its schedule of retries starts over.
type DeliveryRetry struct {
	ID     string
	Due    time.Time
	Resend bool // also when it was delivered
}

// Job is long work that somebody ordered: a row that outlives crashes.
type Job struct {
	Tenant string
	ID     string // job_...
	Kind   string
	State  JobState
	Params []byte // JSON, of the kind
	Cursor string // where the next step begins; of the kind
	Done   int64  // of Total; what is counted is the kind's
	Total  int64  // 0 = not known (yet)
	Result []byte // JSON, of the kind; empty until there is something to say
	Error  string // why it failed, or who cancelled it
	Who    string
	// Run is the tenant's version of the edit that made the job: no other job
	// of the tenant has it, and it only rises.
	Run     int64
	Created time.Time
	Updated time.Time
	Ended   time.Time
	Epoch   int64 // how often it was taken up; a step counts only under the newest
}

// JobState is where a job is; the numbers are stored, never reorder them.
type JobState int8

// States of a job. Open ones are below JobDone.
const (
	JobWaiting   JobState = 0
	JobRunning   JobState = 1
	JobDone      JobState = 2
	JobFailed    JobState = 3
	JobCancelled JobState = 4
)

// Open reports whether there is work left.
func (s JobState) Open() bool { return s < JobDone }

var jobStateNames = [...]string{"waiting", "running", "done", "failed", "cancelled"}

// String is the state's name in the API.
func (s JobState) String() string {
	if s < 0 || int(s) >= len(jobStateNames) {
		return "unknown"
	}
	return jobStateNames[s]
}

// ParseJobState is the inverse of String.
func ParseJobState(name string) (JobState, bool) {
	for i, n := range jobStateNames {
		if n == name {
			return JobState(i), true
		}
	}
	return 0, false
}

// JobStep is what a step of a job did: it is recorded while the job is open,
// under the same Epoch, and still at the cursor the step began at.
type JobStep struct {
	Cursor string
	Done   int64
	Total  int64
	Result []byte
	State  JobState // JobRunning while there is more to do
	Error  string
	// Wait asks for a pause before the next step: there is nothing to do now.
	Wait time.Duration
	// Recorded is true when the step's own writes have recorded it already.
	Recorded bool
}

// JobPrefix begins ids of jobs.
const JobPrefix = "job_"

// MaxOpenJobs is how many jobs of a tenant may be waiting or at work.
const MaxOpenJobs = 100

// JobCancel ends a job; Because.Detail says who did and why.
type JobCancel struct {
	ID      string
	Because Reason
}

// Kinds of jobs.
const (
	RetryJob  = "deliveries.retry"
	CancelJob = "deliveries.cancel"
	ReplayJob = "events.replay"
	EraseJob  = "users.erase"
)

// Failing is an endpoint that has only failed for some time.
type Failing struct {
	Endpoint string
	Since    time.Time // the first failure after the last success
	Last     time.Time
	Detail   string // of the last failure
	// Clean, when it is noted, is the last success known to whoever notes it: a
	// Since from before it, noted by another, is out of date.
	Clean time.Time
}
