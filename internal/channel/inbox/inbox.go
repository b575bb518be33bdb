// Package inbox describes the channel of the inbox within Belfry.
//
// It promises a description only: the inbox's delivery is a row of the store,
// written together with the plan, so that an entry exists exactly once or not
// at all, and nothing is left to send.
//
// It refuses to have a Sender: Kind().New is nil, and whoever goes through the
// kinds skips those.
//
// Testing against it needs nothing.
package inbox

import (
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// Kind describes the channel.
func Kind() channel.Kind {
	return channel.Kind{
		Name:  belfry.ChannelInbox,
		Title: "Inbox",
		Help:  "Messages in Belfry itself: read, archived and snoozed by each person, live on the page. Nothing to set up.",
	}
}
