//! What the steps are called, and what each failure means. Page, API, command line and
//! `/docs/connections` all speak from here.

/// A step of a client on its way to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// It called without a token and was told where to get one.
    Challenged,
    /// It read the project's protected resource metadata (RFC 9728).
    ResourceMetadata,
    /// It read the authorization server's metadata (RFC 8414).
    ServerMetadata,
    /// It registered itself (RFC 7591).
    Registered,
    /// Its Client ID Metadata Document was fetched.
    ClientDocument,
    /// It sent a browser to ask for access.
    Authorize,
    /// The person signed in.
    SignedIn,
    /// The person was asked.
    ConsentShown,
    /// The person answered.
    Consent,
    /// It exchanged the code for tokens.
    CodeExchanged,
    /// It exchanged its refresh token for new ones.
    Refreshed,
    /// A service account got a token (RFC 6749 section 4.4).
    ServiceToken,
    /// It called with a good token.
    Called,
}

impl Step {
    /// All of them, in the order in which a client goes through them.
    pub const ALL: [Self; 13] = [
        Self::Challenged,
        Self::ResourceMetadata,
        Self::ServerMetadata,
        Self::Registered,
        Self::ClientDocument,
        Self::Authorize,
        Self::SignedIn,
        Self::ConsentShown,
        Self::Consent,
        Self::CodeExchanged,
        Self::Refreshed,
        Self::ServiceToken,
        Self::Called,
    ];

    /// As the database and the API call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Challenged => "challenged",
            Self::ResourceMetadata => "resource_metadata",
            Self::ServerMetadata => "server_metadata",
            Self::Registered => "registered",
            Self::ClientDocument => "client_document",
            Self::Authorize => "authorize",
            Self::SignedIn => "signed_in",
            Self::ConsentShown => "consent_shown",
            Self::Consent => "consent",
            Self::CodeExchanged => "code_exchanged",
            Self::Refreshed => "refreshed",
            Self::ServiceToken => "service_token",
            Self::Called => "called",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    /// What happened, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Challenged => "Called without a token and was told where to sign in",
            Self::ResourceMetadata => "Read which authorization server the project has",
            Self::ServerMetadata => "Read what the authorization server offers",
            Self::Registered => "Registered itself",
            Self::ClientDocument => "Its description was fetched",
            Self::Authorize => "Sent a browser to ask for access",
            Self::SignedIn => "The person signed in",
            Self::ConsentShown => "The person was asked",
            Self::Consent => "The person allowed it",
            Self::CodeExchanged => "Got its first tokens",
            Self::Refreshed => "Got fresh tokens",
            Self::ServiceToken => "Got a token as a service account",
            Self::Called => "Called the server",
        }
    }

    /// Begins a new attempt when it comes after a pause.
    pub const fn opens(self) -> bool {
        matches!(
            self,
            Self::Challenged
                | Self::ResourceMetadata
                | Self::ServerMetadata
                | Self::Registered
                | Self::ClientDocument
                | Self::Authorize
        )
    }
}

/// Declares the failures once: variant, code, title, cause, fix.
macro_rules! failures {
    ($($variant:ident $code:literal $title:literal $cause:literal $fix:literal)+) => {
        /// Why a step failed, or why an attempt ended without one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failure {
            $(#[doc = $title] $variant,)+
        }

        impl Failure {
            /// All of them, in the order of the steps they happen at.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As the database and the API call it; the anchor on `/docs/connections`.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// A few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// Why, in one sentence.
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause,)+ }
            }

            /// Who must do what, in one sentence.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)+ }
            }
        }
    };
}

failures! {
    StoppedAfterChallenge "stopped_after_challenge"
        "It never started to sign in"
        "The client was told where to sign in and did nothing: it may not know OAuth, or it waits for someone to press a button."
        "Press “sign in” or “authenticate” in the client; if it has no such button, give it an API token and the project's second address, which the connect dialog shows."
    RegistrationRefused "registration_refused"
        "Its registration was refused"
        "The client described itself in a way that cannot be accepted, for example with a redirect address that is neither https nor on this machine."
        "The client's developer mends the registration; the detail beside the step names what was wrong with it."
    TooManyRequests "too_many_requests"
        "It asked too often"
        "More requests came from one network address than a working client needs."
        "Stop the client, wait a minute and start it again; if many people share the address, they connect one after the other."
    ClientDocumentRefused "client_document_refused"
        "Its description cannot be used"
        "The client names itself by the address of a document, and that address cannot be fetched or the document does not fit it."
        "The client's developer makes the document reachable over https on a public host and has it name its own address as client_id."
    ClientUnknown "client_unknown"
        "The client is not registered"
        "The client uses a registration that was never made here or that has expired."
        "Remove the server in the client and add it again, so that the client registers anew."
    RedirectUriMismatch "redirect_uri_mismatch"
        "The answer would go to an unregistered address"
        "The client asked for its answer at an address that is not among those it registered."
        "Remove the server in the client and add it again; if it happens again, the client's developer registers exactly the address that is asked for."
    PkceMissing "pkce_missing"
        "The request is not protected by PKCE"
        "The client sent no S256 code challenge, without which a stolen code could be used by others."
        "Update the client; its developer uses PKCE with the method S256, as the MCP specification demands."
    RequestInvalid "request_invalid"
        "The request cannot be understood"
        "The client's request lacks a parameter, repeats one, or asks for a kind of answer that is not given here."
        "Update the client; the detail beside the step tells its developer what was wrong."
    ResourceUnknown "resource_unknown"
        "It asks for another server"
        "The client asked for access to an address that is no MCP server of this platform, often for one with another spelling or one that was renamed."
        "Put the address into the client exactly as the connect dialog shows it."
    NoAccess "no_access"
        "The person may not use this project"
        "The person who signed in is not among those who may call this project."
        "Someone who may change the project adds them under its access settings, or they sign in as someone else."
    ConsentDenied "consent_denied"
        "The person said no"
        "The person was asked and refused."
        "Start again from the client and allow it, if that was a mistake."
    QuestionClosed "question_closed"
        "The question was no longer open"
        "The person answered a question that had been answered before, had been open too long, or was asked in another browser."
        "Start again from the client and answer in the window that it opens."
    InteractionNeeded "interaction_needed"
        "It did not let the person be asked"
        "The client demanded an answer without showing anything, and the person had to sign in or to allow it first."
        "Start again from the client; a working client then opens the browser."
    StoppedAtSignIn "stopped_at_sign_in"
        "Nobody signed in"
        "The browser was sent to the sign-in page, and it was not completed."
        "Start again from the client and sign in; if no browser window appeared, look for one behind the others or on another machine."
    StoppedAtConsent "stopped_at_consent"
        "The question was not answered"
        "The person was asked whether to allow the client and closed the page, or still looks at it."
        "Start again from the client and press Allow."
    StoppedAfterConsent "stopped_after_consent"
        "It never came back for its token"
        "The browser took the answer to the client, and the client did not use it: it may have stopped listening, or the browser runs on another machine."
        "Start again from the client, keep it running until the browser says that it is done, and use a browser on the machine where the client runs."
    ClientAuthenticationFailed "client_authentication_failed"
        "The client could not prove who it is"
        "The client's secret or its signature does not fit its registration."
        "Remove the server in the client and add it again; for a service account, make a new secret and give it to the client."
    GrantTypeRefused "grant_type_refused"
        "It asks for tokens in an unknown way"
        "The client used a grant type that this platform does not have or that it did not register."
        "Update the client; it uses authorization_code and refresh_token."
    CodeInvalid "code_invalid"
        "The code is unknown or too old"
        "The client came back with a code that was never given, belongs to another client, or is older than its short life."
        "Start again from the client; if it happens each time, the client's clock or its connection is too slow."
    CodeReused "code_reused"
        "The code was used twice"
        "The same code came a second time, so that everything it had given was revoked: it may have been stolen."
        "Start again from the client; if it happens each time, the client's developer makes it send a code once."
    VerifierWrong "verifier_wrong"
        "PKCE does not fit"
        "The client that came for the token could not prove to be the one that asked, because its code verifier is missing or wrong."
        "Start again from the client, in one window only; if it happens each time, the client's developer mends its PKCE."
    RedirectUriChanged "redirect_uri_changed"
        "It names another redirect address"
        "The client came for the token with another redirect address than it had asked with."
        "Update the client; its developer sends the same redirect address in both requests."
    RefreshInvalid "refresh_invalid"
        "The refresh token is no longer good"
        "The refresh token is unknown, has expired, or belongs to an access that was taken back."
        "Sign in again from the client."
    RefreshReplayed "refresh_replayed"
        "An old refresh token was used again"
        "A refresh token that had been exchanged long before came again, so that the access was revoked: it may have been stolen, or a client was restored from a backup."
        "Sign in again from the client; if it happens each time, the client does not keep the newest token it is given."
    StoppedAfterToken "stopped_after_token"
        "It has a token and does not call"
        "The client got its token and has not called the server with it."
        "Look at what the client says; if it is content, call a tool from it."
    TokenInvalid "token_invalid"
        "The token is not one of ours"
        "The client sent a token that is malformed, forged or unknown here."
        "Sign in again from the client; if it sends an API token, check that it was copied whole and not revoked."
    TokenExpired "token_expired"
        "The token has expired"
        "The client sent an access token or API token after its end; a working client then refreshes it by itself."
        "If the client does not recover by itself, sign in again from it, and update it; an API token is replaced on the Tokens page."
    TokenRevoked "token_revoked"
        "The access was taken back"
        "Someone revoked this client's access, or Berth did because a code or a refresh token was used twice."
        "Sign in again from the client."
    TokenForeign "token_foreign"
        "The token is for another server"
        "The client sent a token that was given for another project, or for another spelling of this one's address."
        "Put the address into the client exactly as the connect dialog shows it, and sign in again."
    ScopeMissing "scope_missing"
        "The token lacks the scope"
        "The client's token does not carry the permission to call this project."
        "Sign in again from the client; a working client then asks for the scope that it was told."
    CallerNotAllowed "caller_not_allowed"
        "The caller may not use this project"
        "The token is good, but its owner is not among those who may call this project, perhaps not any more."
        "Someone who may change the project adds them under its access settings."
    OriginRefused "origin_refused"
        "A web page of another origin called"
        "The call came from a web page whose origin may not call this project."
        "Someone who may change the project adds the page's origin under its access settings."
    SessionUnknown "session_unknown"
        "The MCP session is gone"
        "The client used an MCP session whose instance was replaced, or that belongs to someone else; a working client then starts a new one by itself."
        "If the client does not recover by itself, restart it."
    PathDenied "path_denied"
        "It called a path that is not served"
        "The client called another path than the MCP server's, and the project has not made that path public."
        "Put the whole address into the client, with /mcp at its end; a path that everyone may ask for is named under the project's access settings."
    NothingLive "nothing_live"
        "Nothing answers"
        "No deployment of the project is live, or its server did not take the call in time."
        "Someone who may change the project looks at its newest deployment and at the server's log, and deploys again."
}

impl Failure {
    /// By its code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.code() == code)
    }

    /// A working client gets over it by itself, so that it is no end of a connection that worked.
    pub const fn passes(self) -> bool {
        matches!(
            self,
            Self::SessionUnknown | Self::PathDenied | Self::NothingLive
        )
    }

    /// Why an attempt went no further than `step`.
    pub const fn of_stop_at(step: Step) -> Self {
        match step {
            Step::Challenged
            | Step::ResourceMetadata
            | Step::ServerMetadata
            | Step::Registered
            | Step::ClientDocument => Self::StoppedAfterChallenge,
            Step::Authorize => Self::StoppedAtSignIn,
            Step::SignedIn | Step::ConsentShown => Self::StoppedAtConsent,
            Step::Consent => Self::StoppedAfterConsent,
            Step::CodeExchanged | Step::Refreshed | Step::ServiceToken | Step::Called => {
                Self::StoppedAfterToken
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_name_is_read_back() {
        for failure in Failure::ALL {
            assert_eq!(Failure::parse(failure.code()), Some(*failure));
        }
        for step in Step::ALL {
            assert_eq!(Step::parse(step.name()), Some(step));
        }
    }

    #[test]
    fn every_failure_says_cause_and_fix_in_one_sentence_each() {
        for failure in Failure::ALL {
            for sentence in [failure.cause(), failure.fix()] {
                assert!(sentence.ends_with('.'), "{sentence}");
                assert_eq!(sentence.matches(". ").count(), 0, "{sentence}");
            }
        }
    }
}
