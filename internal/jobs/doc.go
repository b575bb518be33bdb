// Package jobs does long work that somebody ordered, a bounded step at a time.
//
// A job is a row. It promises that exactly one process works on a job at a time,
// that another takes over within a lease when that one dies, and that a step is
// recorded once: only by whoever holds the job, and only at the cursor it began
// at. Steps that write together with their record (JobStep.Recorded) are done
// once whatever happens; others may be done again after a crash and must not
// mind.
//
// It refuses to know what a job does: kinds say that, and a kind nobody here
// knows is left for processes that do. It refuses to hold up other work: one
// process does a few jobs at once, a step each, and a step that has nothing to
// do says how long to wait.
//
// Test it with a real store; kinds are functions.
package jobs
