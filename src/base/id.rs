//! Newtypes for every index that crosses a room, so that two bare integers are never confused.

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The value as an index into the table that issued it.
            #[inline]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// Index into a program's table of origins: one rule of a policy, ACL or group, or one end of a tier.
    RuleId
);
impl RuleId {
    /// Stands where no single rule decided.
    pub const NONE: RuleId = RuleId(u32::MAX);

    /// Whether a rule is named at all.
    #[inline]
    pub const fn is_some(self) -> bool {
        self.0 != u32::MAX
    }
}

index!(
    /// Index of a worker thread, equal to the queue it serves; 0-based.
    WorkerId
);

index!(
    /// Index of a hardware or veth queue; 0-based.
    QueueId
);
