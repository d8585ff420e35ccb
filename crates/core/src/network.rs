//! Which network a run has: the words of settings and of the agent's arguments.
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the settings ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A network of its own where the machine can give one, else the machine's.
    #[default]
    Auto,
    /// A network of its own, or no run starts.
    Nat,
    /// The machine's.
    Host,
    /// Only its own loopback address.
    None,
}

/// What the settings of a cluster say of the networks of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// What is asked for.
    pub mode: NetworkMode,
    /// Addresses of the machine for runs.
    pub pool: Pool,
    /// What runs may reach besides what is beyond the machine.
    pub reach: Reach,
}

/// What runs with a network of their own may reach besides what is beyond the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nothing: not the machine, not each other, not the metadata service of a cloud.
    #[default]
    Beyond,
    /// Everything.
    Everything,
}

/// What a run gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The machine's network.
    Host,
    /// Only a loopback address of its own.
    None,
    /// An address of its own, behind the machine's.
    Nat(Pool),
}

/// Addresses for runs: a network of version 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pool {
    first: Ipv4Addr,
    bits: u8,
}

/// Not a network for runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no pool of addresses for runs: write a private network like `10.246.0.0/16`, with 8 to 28 bits"
)]
pub struct NotAPool(String);

impl Pool {
    /// The machine's own address towards its runs.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + 1)
    }

    /// How many runs have an address at the same time.
    pub fn room(self) -> u32 {
        // Without the network's own, the gateway's, and the one for everybody.
        (1 << (32 - u32::from(self.bits))) - 3
    }

    /// The address with this number, counted round and round.
    pub fn address(self, number: u64) -> Ipv4Addr {
        let number = u32::try_from(number % u64::from(self.room())).unwrap_or_default();
        Ipv4Addr::from(u32::from(self.first) + 2 + number)
    }

    /// Whether an address is in it.
    pub fn holds(self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX << (32 - u32::from(self.bits));
        u32::from(address) & mask == u32::from(self.first)
    }
}

/// `10.246.0.0/16`, which nothing well known uses.
impl Default for Pool {
    fn default() -> Self {
        Self { first: Ipv4Addr::new(10, 246, 0, 0), bits: 16 }
    }
}

impl TryFrom<String> for Pool {
    type Error = NotAPool;

    fn try_from(text: String) -> Result<Self, NotAPool> {
        text.parse()
    }
}

impl From<Pool> for String {
    fn from(pool: Pool) -> Self {
        pool.to_string()
    }
}

impl FromStr for Pool {
    type Err = NotAPool;

    fn from_str(text: &str) -> Result<Self, NotAPool> {
        let wrong = || NotAPool(text.to_owned());
        let (first, bits) = text.split_once('/').ok_or_else(wrong)?;
        let (first, bits): (Ipv4Addr, u8) =
            (first.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?);
        if !(8..=28).contains(&bits) || !first.is_private() {
            return Err(wrong());
        }
        let pool = Self { first, bits };
        if pool.holds(first) { Ok(pool) } else { Err(wrong()) }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Not one of the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network of a run")]
pub struct NotANetwork(String);

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork(text.to_owned());
        match text.split_once(':') {
            None if text == "host" => Ok(Self::Host),
            None if text == "none" => Ok(Self::None),
            Some(("nat", pool)) => pool.parse().map(Self::Nat).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::None => f.write_str("none"),
            Self::Nat(pool) => write!(f, "nat:{pool}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_private_networks() {
        let pool: Pool = "10.246.0.0/16".parse().unwrap();
        assert_eq!(pool.to_string(), "10.246.0.0/16");
        assert_eq!((pool.gateway(), pool.room()), (Ipv4Addr::new(10, 246, 0, 1), 65_533));
        assert_eq!(pool.address(0), Ipv4Addr::new(10, 246, 0, 2));
        assert_eq!(pool.address(65_532), Ipv4Addr::new(10, 246, 255, 254));
        assert_eq!(pool.address(65_533), pool.address(0));
        assert!(pool.holds(pool.gateway()) && !pool.holds(Ipv4Addr::new(10, 247, 0, 0)));
        for wrong in ["", "10.246.0.0", "10.246.0.1/16", "8.8.0.0/16", "10.0.0.0/7", "10.0.0.0/29", "a/16"] {
            assert!(wrong.parse::<Pool>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_are_written_as_they_are_read() {
        for text in ["host", "none", "nat:192.168.8.0/24"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for wrong in ["", "nat", "nat:", "host:", "bridge"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
